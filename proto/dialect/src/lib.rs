//! Reads, writes and translates every LLM wire format without IO.
