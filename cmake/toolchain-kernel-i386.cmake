# The demo kernel on i386: freestanding code for a 686, without FPU.
# SPDX-License-Identifier: MIT
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR i386)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(NEOMM_ARCH i386 CACHE STRING "")
set(CMAKE_C_FLAGS_INIT "-m32 -march=i686 -ffreestanding -fno-pic -fno-pie -mgeneral-regs-only \
-fno-stack-protector -fno-asynchronous-unwind-tables")
set(CMAKE_ASM_FLAGS_INIT "-m32")
set(CMAKE_EXE_LINKER_FLAGS_INIT "-m32 -nostdlib -static")
