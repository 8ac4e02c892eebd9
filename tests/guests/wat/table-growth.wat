;; Grows its table until it is refused.
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (table $t 1 funcref)
  (func (export "handle") (param i32) (result i32)
    (loop $again
      (drop (table.grow $t (ref.null func) (i32.const 1000)))
      (br $again))
    (i32.const 16)))
