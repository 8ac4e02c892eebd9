//! Files that are hostile before they run.

use wasm_encoder::{
    Alias, CanonicalFunctionSection, CodeSection, Component, ComponentAliasSection,
    ComponentExportKind, ComponentExportSection, ComponentTypeSection, ExportKind, ExportSection,
    Function, FunctionSection, InstanceSection, Module, ModuleSection, TypeSection, ValType,
};

const LOCALS: u32 = 2000;

/// A valid component that keeps a compiler busy for more than its limits: a few
/// functions as large as one may be, with very many values that all stay alive.
pub fn compile_bomb() -> Vec<u8> {
    let body = body();
    let mut types = TypeSection::new();
    types.ty().function([], []);
    let (mut functions, mut codes) = (FunctionSection::new(), CodeSection::new());
    for _ in 0..4 {
        functions.function(0);
        codes.function(&body);
    }
    functions.function(0);
    let mut empty = Function::new([]);
    empty.instructions().end();
    codes.function(&empty);
    let mut exports = ExportSection::new();
    exports.export("f", ExportKind::Func, 4);
    let mut module = Module::new();
    module
        .section(&types)
        .section(&functions)
        .section(&exports)
        .section(&codes);

    let mut instances = InstanceSection::new();
    instances.instantiate::<[(&str, wasm_encoder::ModuleArg); 0], &str>(0, []);
    let mut aliases = ComponentAliasSection::new();
    aliases.alias(Alias::CoreInstanceExport {
        instance: 0,
        kind: ExportKind::Func,
        name: "f",
    });
    let mut types = ComponentTypeSection::new();
    types
        .function()
        .params::<[(&str, wasm_encoder::ComponentValType); 0], _>([])
        .result(None);
    let mut lifted = CanonicalFunctionSection::new();
    lifted.lift(0, 0, []);
    let mut exports = ComponentExportSection::new();
    exports.export("handle", ComponentExportKind::Func, 0, None);
    let mut component = Component::new();
    component
        .section(&ModuleSection(&module))
        .section(&instances)
        .section(&aliases)
        .section(&types)
        .section(&lifted)
        .section(&exports);
    component.finish()
}

fn body() -> Function {
    let mut function = Function::new([(LOCALS, ValType::I64)]);
    let mut code = function.instructions();
    // A function has at most 7 654 321 bytes; these are about 7.1 million.
    for round in 0..200 {
        for local in 0..LOCALS {
            let (a, b) = ((local * 7 + round) % LOCALS, (local * 13 + 5) % LOCALS);
            code.local_get(a).local_get(b).i64_mul();
            code.local_get(local).local_get(a).i64_rotl();
            code.i64_add().local_set(local);
            if local % 50 == 0 {
                code.local_get(a).i64_eqz();
                code.if_(wasm_encoder::BlockType::Empty);
                code.i64_const(i64::from(round)).local_set(b).end();
            }
        }
    }
    code.end();
    function
}
