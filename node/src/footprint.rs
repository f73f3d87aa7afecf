//! What a request and a connection take while they wait: the sizes of their futures, each with a bound.
//!
//! 512 connections whose requests wait for a provider hold each of these 512 times. A future holds room for all that is
//! alive across any of its awaits, rare or not, so what is rare and large is boxed where it begins.

/// Bytes of the future that a function makes of its arguments, whatever these are.
pub(crate) const fn future_bytes<A, F: Future>(_makes: &impl FnOnce(A) -> F) -> usize {
    size_of::<F>()
}

/// Asserts that futures, by name, are within their bounds; names all that are not.
pub(crate) fn assert_within(sizes: &[(&str, usize, usize)]) {
    let over: Vec<_> = sizes.iter().filter(|(_, bytes, bytes_max)| bytes > bytes_max).collect();
    assert!(over.is_empty(), "larger than they may be: {over:?}; of {sizes:?}");
}
