# Flags of the two kinds of code: the library's (always as a kernel compiles it) and host code.
# SPDX-License-Identifier: MIT

add_library(neomm_warnings INTERFACE)
target_compile_options(neomm_warnings INTERFACE
  -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wundef
  $<$<BOOL:${NEOMM_WERROR}>:-Werror>)

add_library(neomm_instrumentation INTERFACE)
if(NEOMM_SANITIZE)
  target_compile_options(neomm_instrumentation INTERFACE
    -fsanitize=${NEOMM_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(neomm_instrumentation INTERFACE -fsanitize=${NEOMM_SANITIZE})
endif()

# Only the library counts its lines; who links it supplies the counters' run time.
add_library(neomm_counted INTERFACE)
add_library(neomm_counter INTERFACE)
if(NEOMM_COVERAGE)
  target_compile_options(neomm_counted INTERFACE --coverage)
  target_link_options(neomm_counter INTERFACE --coverage)
  if(CMAKE_SIZEOF_VOID_P EQUAL 4) # 64-bit counters
    target_link_libraries(neomm_counter INTERFACE atomic)
  endif()
endif()

# What src/ is compiled with, on the host too: freestanding, no FPU, i386 without SSE or libgcc.
add_library(neomm_kernel_flags INTERFACE)
target_include_directories(neomm_kernel_flags INTERFACE
  ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/src/arch/${NEOMM_ARCH})
target_compile_options(neomm_kernel_flags INTERFACE
  -ffreestanding -mgeneral-regs-only -fno-stack-protector
  $<$<STREQUAL:${NEOMM_ARCH},i386>:-march=i686>)
target_compile_definitions(neomm_kernel_flags INTERFACE
  NEOMM_INSTRUMENTED=$<BOOL:${NEOMM_INSTRUMENTED}>)
target_link_libraries(neomm_kernel_flags INTERFACE
  neomm_warnings neomm_instrumentation neomm_counted)

add_library(neomm_host_flags INTERFACE)
target_include_directories(neomm_host_flags INTERFACE
  ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR})
target_compile_definitions(neomm_host_flags INTERFACE
  _GNU_SOURCE NEOMM_INSTRUMENTED=$<BOOL:${NEOMM_INSTRUMENTED}>)
target_link_libraries(neomm_host_flags INTERFACE
  neomm_warnings neomm_instrumentation neomm_counter)
