# Prints the library's sources for one architecture, a line each, for builds of another kind:
#   cmake -DNEOMM_ARCH=i386 -P cmake/neomm-list-sources.cmake
# SPDX-License-Identifier: MIT
include(${CMAKE_CURRENT_LIST_DIR}/neomm-sources.cmake)
foreach(part BASE ARCH ARCH_CPU PMM PAGING HEAP SWAP VMM)
  foreach(source IN LISTS NEOMM_${part}_SOURCES)
    execute_process(COMMAND ${CMAKE_COMMAND} -E echo ${source})
  endforeach()
endforeach()
