(component
  (import "evil:thing/door@1.0.0" (instance (export "open" (func))))
  (core module $m (func (export "f")))
  (core instance $i (instantiate $m))
  (func (export "handle") (canon lift (core func $i "f"))))
