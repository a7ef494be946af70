#![no_main]

#[path = "../../tests/hostile/targets/mod.rs"]
#[allow(dead_code, unused_imports, reason = "each target uses one of them")]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::roles_file(data));
