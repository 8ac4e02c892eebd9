;; Never comes out of its start function.
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func $start (loop $again (br $again)))
  (func (export "handle") (param i32) (result i32) (i32.const 16))
  (start $start))
