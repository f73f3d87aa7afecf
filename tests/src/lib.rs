//! Whole-system worlds: scenarios, goldens and house rules as tests.
