;; Returns a pointer to memory that it does not have.
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "handle") (param i32) (result i32) (i32.const -8)))
