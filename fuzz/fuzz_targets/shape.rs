//! The outline of a component, read before anything of it is compiled.
#![no_main]

use libfuzzer_sys::fuzz_target;
use retort::conf::grants::Response;
use retort::vessel::shape::Shape;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(shape) = Shape::of(bytes) {
        let _ = shape.check("firewall-drop", &Response::default());
    }
});
