//! Client-side load balancing for private, role-based services: one tower layer, no proxy.
