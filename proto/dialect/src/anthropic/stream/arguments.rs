//! Tells when the JSON of a call's arguments is complete, as it comes in pieces.

/// Follows one JSON object through pieces of text. It does not check the JSON, only where it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Arguments {
    /// Nothing but white space yet.
    #[default]
    Empty,
    /// Inside, so many brackets deep.
    Inside { depth: u32, text: Text },
    /// The last bracket is closed.
    Complete,
    /// No object: its end cannot be known.
    Unbounded,
}

/// Where in a string the text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    Outside,
    Inside,
    /// Right after a backslash.
    Escape,
}

impl Arguments {
    pub(super) fn feed(&mut self, piece: &str) {
        for byte in piece.bytes() {
            *self = self.after(byte);
        }
    }

    const fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Empty | Self::Complete, b' ' | b'\t' | b'\r' | b'\n') => self,
            (Self::Empty, b'{') => Self::Inside { depth: 1, text: Text::Outside },
            (Self::Empty | Self::Complete | Self::Unbounded, _) => Self::Unbounded,
            (Self::Inside { depth, text: Text::Escape }, _) => Self::Inside { depth, text: Text::Inside },
            (Self::Inside { depth, text: Text::Inside }, b'\\') => Self::Inside { depth, text: Text::Escape },
            (Self::Inside { depth, text: Text::Inside }, b'"') => Self::Inside { depth, text: Text::Outside },
            (Self::Inside { depth, text: Text::Outside }, b'"') => Self::Inside { depth, text: Text::Inside },
            (Self::Inside { depth, text: Text::Outside }, b'{' | b'[') => {
                Self::Inside { depth: depth.saturating_add(1), text: Text::Outside }
            }
            (Self::Inside { depth: 0 | 1, text: Text::Outside }, b'}' | b']') => Self::Complete,
            (Self::Inside { depth, text: Text::Outside }, b'}' | b']') => {
                Self::Inside { depth: depth - 1, text: Text::Outside }
            }
            (Self::Inside { .. }, _) => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_complete_at_its_last_bracket_however_it_is_cut() {
        let json = r#" {"a": "}\"}", "b": [{"c": 1}]} "#;
        let end = json.trim_end().len();
        for cut in 0..=json.len() {
            let (head, tail) = json.split_at(cut);
            let mut arguments = Arguments::default();
            arguments.feed(head);
            assert_eq!(arguments == Arguments::Complete, cut >= end, "cut at {cut}");
            arguments.feed(tail);
            assert_eq!(arguments, Arguments::Complete);
        }
    }

    #[test]
    fn what_is_no_object_is_never_complete() {
        for json in ["1", "{}{}", "\"a\""] {
            let mut arguments = Arguments::default();
            arguments.feed(json);
            assert_eq!(arguments, Arguments::Unbounded, "{json}");
        }
    }
}
