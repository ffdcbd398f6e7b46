#!/bin/bash
# Run the long experiments one after another; each prints a table and writes it to docs/results/.
set -uo pipefail
cd "$(dirname "$0")/.."
failed=()
for name in ledger memory_instances memory_generated memory_models memory_banks patches quantize mixed kernels mcu riscv mcu_exits exits_overhead guarantee exits_kws exits_cifar10; do
    echo "== benchmarks/$name.py"
    .venv/bin/python "benchmarks/$name.py" || failed+=("$name")
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "failed: ${failed[*]}" >&2
    exit 1
fi
