;; Wants 128 MiB before its first instruction.
(module
  (memory (export "memory") 2048)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "handle") (param i32) (result i32) (i32.const 16)))
