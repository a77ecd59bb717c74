# What neomm-bench says to wrong arguments, and its table.
# SPDX-License-Identifier: MIT

function(expect want pattern)
  execute_process(COMMAND ${BENCH} ${ARGN}
    OUTPUT_VARIABLE output ERROR_VARIABLE error RESULT_VARIABLE status)
  if(NOT status EQUAL want OR NOT "${output}${error}" MATCHES "${pattern}")
    message(FATAL_ERROR "neomm-bench ${ARGN}: ${status}, '${output}${error}'")
  endif()
endfunction()

expect(0 "usage: neomm-bench LAYER" --help)
expect(2 "which layer")
expect(2 "no such layer: disk" disk)
expect(2 "unknown option --fast" heap --fast)
expect(2 "--runs wants" heap --runs)
expect(2 "--runs wants" heap --runs 0)
expect(2 "--runs wants" heap --runs 5x)
expect(2 "--corpus wants" swap --corpus)
expect(2 "--traces wants" swap --traces)
expect(1 "has no traces" swap --traces ${CMAKE_CURRENT_LIST_DIR} --only replay)
expect(1 "has no pages" swap --corpus /dev/null)
expect(2 "one layer" heap pmm)
expect(2 "--only wants" pmm --only)
expect(2 "no benchmark has this in its name: pair-4m" pmm --only pair-4m)
expect(0 "max +peer +ratio\npmm/flat-64g-pair-4k [^\n]+ at 1 GiB\n$"
  pmm --only flat-64g-pair-4k --runs 1 --quick)
expect(0 "paging/map-1g .*vmm/mmap-munmap " all --only map --runs 1 --quick)
expect(0 "swap/lz4-ratio .*swap/dense-ratio .*swap/pool-ratio " swap --only -ratio --runs 1 --quick)
