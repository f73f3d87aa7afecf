//! An honest stranger: mock providers, load, comparison reports.
