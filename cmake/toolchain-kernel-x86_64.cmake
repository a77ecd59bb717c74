# The demo kernel on x86_64: freestanding code in the last 2 GiB, without red zone and FPU.
# SPDX-License-Identifier: MIT
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(NEOMM_ARCH x86_64 CACHE STRING "")
set(CMAKE_C_FLAGS_INIT "-m64 -ffreestanding -fno-pic -fno-pie -mgeneral-regs-only \
-fno-stack-protector -fno-asynchronous-unwind-tables -mno-red-zone -mcmodel=kernel")
set(CMAKE_ASM_FLAGS_INIT "-m64")
set(CMAKE_EXE_LINKER_FLAGS_INIT "-m64 -nostdlib -static")
