;; Wants a hundred thousand table elements before its first instruction.
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (table 100000 funcref)
  (func (export "handle") (param i32) (result i32) (i32.const 16)))
