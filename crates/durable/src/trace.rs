//! The durable writes as events, for the crash recorder of `testkit`.
