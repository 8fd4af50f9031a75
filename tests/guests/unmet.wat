;; A component that wants what no node offers.
(component
  (import "wasi:keyvalue/store@0.2.0-draft" (instance $store
    (export "open" (func (param "identifier" string)))))
  (core module $main (func (export "run") (result i32) (i32.const 0)))
  (core instance $main (instantiate $main))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $exports (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $exports)))
