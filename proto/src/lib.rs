//! Words, units, ids, specs, commands and error codes the whole house shares, and how they look as bytes.
