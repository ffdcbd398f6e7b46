#!/bin/bash
# Install the compilers, the emulator and the browser that are missing (Debian and Ubuntu).
# Without root and sudo it says what is missing and goes on: tests that need it skip with a reason.
set -euo pipefail

missing=()
need() { # command package...
    command -v "$1" >/dev/null || missing+=("${@:2}")
}

need cc gcc libc6-dev
need arm-none-eabi-gcc gcc-arm-none-eabi
need qemu-system-arm qemu-system-arm
need riscv64-unknown-elf-gcc gcc-riscv64-unknown-elf
need qemu-system-riscv32 qemu-system-misc
if ! command -v arm-none-eabi-gcc >/dev/null || [ "$(arm-none-eabi-gcc -print-file-name=libm.a)" = libm.a ]; then
    missing+=(libnewlib-arm-none-eabi)
fi
if ! riscv64-unknown-elf-gcc --specs=picolibc.specs -E - </dev/null >/dev/null 2>&1; then
    missing+=(picolibc-riscv64-unknown-elf)
fi
if ! printf '#include <math.h>\nint main(void){return 0;}' | cc -x c - -o /dev/null 2>/dev/null; then
    missing+=(libc6-dev)
fi
# Ubuntu's package of this name only points to a snap, which containers cannot run.
if ! command -v chromium >/dev/null && ! command -v google-chrome >/dev/null &&
    ! grep -qs '^ID=ubuntu' /etc/os-release; then
    missing+=(chromium)
fi

[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "not installed, and neither root nor sudo to install it: ${missing[*]}" >&2
        exit 0
    fi
    as_root=(sudo)
fi
if ! command -v apt-get >/dev/null; then
    echo "no apt-get here; install by your own means: ${missing[*]}" >&2
    exit 0
fi
echo "installing system packages: ${missing[*]}" >&2
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
