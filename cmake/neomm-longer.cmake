# Behind the last test of a folder: every test with threads many times over. These run with
# `ctest -C Longer` only, as script/test --label longer does.
# SPDX-License-Identifier: MIT
get_property(neomm_tests DIRECTORY PROPERTY TESTS)
foreach(test IN LISTS neomm_tests)
  get_property(neomm_labels TEST ${test} PROPERTY LABELS)
  if("stress" IN_LIST neomm_labels)
    add_test(NAME longer-${test} CONFIGURATIONS Longer
      COMMAND ${PROJECT_SOURCE_DIR}/test/repeat.sh 50 $<TARGET_FILE:test-${test}>)
    set_tests_properties(longer-${test} PROPERTIES LABELS longer TIMEOUT 1800)
  endif()
endforeach()
