# Behind the last test of a folder: each test notes the fault points that it made fail, and
# fault-sites, when all have run, misses those that nobody did.
# SPDX-License-Identifier: MIT
set(neomm_fault_sites ${PROJECT_BINARY_DIR}/fault-sites)
file(MAKE_DIRECTORY ${neomm_fault_sites})
get_property(neomm_tests DIRECTORY PROPERTY TESTS)
foreach(test IN LISTS neomm_tests)
  set_property(TEST ${test} APPEND PROPERTY ENVIRONMENT
    NEOMM_FAULT_SITES_OUT=${neomm_fault_sites}/${test}.txt)
endforeach()
add_test(NAME fault-sites COMMAND ${PROJECT_SOURCE_DIR}/test/lint/fault_sites.sh
  ${PROJECT_SOURCE_DIR} ${neomm_fault_sites} ${NEOMM_ARCH})
set_tests_properties(fault-sites PROPERTIES LABELS sweep TIMEOUT 60 DEPENDS "${neomm_tests}")
