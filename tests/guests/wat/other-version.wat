(component
  (import "retort:response/hostname@0.2.0" (instance (export "get" (func (result string)))))
  (core module $m (func (export "f")))
  (core instance $i (instantiate $m))
  (func (export "handle") (canon lift (core func $i "f"))))
