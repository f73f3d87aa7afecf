//! One chart: axes with a grid, lines, and their names.

use super::escape;

const LEFT: f64 = 68.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 30.0;

pub(super) struct Chart {
    pub(super) title: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<Line>,
}

pub(super) struct Axis {
    pub(super) scale: Scale,
    pub(super) from: f64,
    pub(super) to: f64,
    /// Where a grid line runs, and what stands beside it.
    pub(super) ticks: Vec<(f64, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    Log,
}

pub(super) struct Line {
    /// Its colour.
    pub(super) class: &'static str,
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

impl Axis {
    /// Gives the place of a value between the ends, 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let scaled = |value: f64| match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(1e-9).ln(),
        };
        let (from, to) = (scaled(self.from), scaled(self.to));
        let share = (scaled(value) - from) / (to - from).max(1e-9);
        share.clamp(0.0, 1.0)
    }
}

impl Chart {
    pub(super) fn draw(&self, top: f64, width: f64, height: f64) -> String {
        let (right, ceiling, ground) = (width - RIGHT, top + TOP, top + height - BOTTOM);
        let x = |value: f64| LEFT + self.x.place(value) * (right - LEFT);
        let y = |value: f64| ground - self.y.place(value) * (ground - ceiling);
        let mut svg = String::new();
        svg.push_str(&format!("<text x=\"12\" y=\"{:.1}\">{}</text>\n", top + 14.0, escape(&self.title)));
        for (at, text) in &self.y.ticks {
            let at = y(*at);
            svg.push_str(&format!("<path class=\"grid\" d=\"M{LEFT:.1} {at:.1}H{right:.1}\"/>\n"));
            let (left, low) = (LEFT - 6.0, at + 4.0);
            svg.push_str(&format!(
                "<text x=\"{left:.1}\" y=\"{low:.1}\" text-anchor=\"end\">{}</text>\n",
                escape(text)
            ));
        }
        for (at, text) in &self.x.ticks {
            let (at, low) = (x(*at), ground + 17.0);
            svg.push_str(&format!("<path class=\"grid\" d=\"M{at:.1} {ceiling:.1}V{ground:.1}\"/>\n"));
            svg.push_str(&format!(
                "<text x=\"{at:.1}\" y=\"{low:.1}\" text-anchor=\"middle\">{}</text>\n",
                escape(text)
            ));
        }
        let mut name_right = right;
        for line in self.lines.iter().rev() {
            let (class, name_y) = (line.class, top + 14.0);
            let name = escape(&line.name);
            svg.push_str(&format!(
                "<text class=\"{class}\" x=\"{name_right:.1}\" y=\"{name_y:.1}\" text-anchor=\"end\">{name}</text>\n"
            ));
            name_right -= 7.0 * f64::from(u16::try_from(line.name.len()).unwrap_or(u16::MAX)) + 14.0;
            let mut path = String::new();
            for (index, (at, value)) in line.points.iter().enumerate() {
                let letter = if index == 0 { 'M' } else { 'L' };
                path.push_str(&format!("{letter}{:.1} {:.1}", x(*at), y(*value)));
            }
            if !path.is_empty() {
                svg.push_str(&format!("<path class=\"line {class}\" d=\"{path}\"/>\n"));
            }
        }
        svg
    }
}

/// Gives the next 1, 2 or 5 times a power of ten that is not below `value`.
pub(super) fn round_up(value: f64) -> f64 {
    let decade = 10_f64.powf(value.max(1e-9).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    steps.iter().map(|step| step * decade).find(|round| *round >= value * (1.0 - 1e-9)).unwrap_or(value)
}

/// Gives the next 1, 2 or 5 times a power of ten that is not above `value`.
pub(super) fn round_down(value: f64) -> f64 {
    let decade = 10_f64.powf(value.max(1e-9).log10().floor());
    let steps = [5.0, 2.0, 1.0];
    steps.iter().map(|step| step * decade).find(|round| *round <= value * (1.0 + 1e-9)).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_numbers_enclose_a_value() {
        assert_eq!((round_down(830.0), round_up(830.0)), (500.0, 1000.0));
        assert_eq!((round_down(20.0), round_up(20.0)), (20.0, 20.0));
        assert_eq!((round_down(0.3), round_up(0.3)), (0.2, 0.5));
    }

    #[test]
    fn places_follow_the_scale() {
        let axis = |scale| Axis { scale, from: 1.0, to: 100.0, ticks: Vec::new() };

        assert!((axis(Scale::Log).place(10.0) - 0.5).abs() < 1e-9);
        assert!((axis(Scale::Linear).place(50.5) - 0.5).abs() < 1e-9);
        assert_eq!((axis(Scale::Log).place(0.0), axis(Scale::Linear).place(1000.0)), (0.0, 1.0));
    }
}
