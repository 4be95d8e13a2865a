//! Config, mapping and rule files become one checked Config.
