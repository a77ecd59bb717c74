# What watches the heap costs nothing once it is off: a pair takes exactly as many instructions in a
# heap that was watched for a while as in one that never was. -DCOUNT= (the program), -DVALGRIND=.
# SPDX-License-Identifier: MIT

# Instructions of 2000 pairs, in one run more than in another; ARGN: as the program takes it.
function(pairs result)
  foreach(many 2000 4000)
    execute_process(
      COMMAND ${CMAKE_COMMAND} -E env GLIBC_TUNABLES=glibc.rtld.optional_static_tls=8192
        ${VALGRIND} --tool=callgrind --callgrind-out-file=/dev/null ${COUNT} neomm 64 ${many} ${ARGN}
      ERROR_VARIABLE log OUTPUT_QUIET RESULT_VARIABLE status)
    if(NOT status EQUAL 0 OR NOT log MATCHES "Collected : ([0-9]+)")
      message(FATAL_ERROR "${ARGN}: ${status}, ${log}")
    endif()
    set(count_${many} ${CMAKE_MATCH_1})
  endforeach()
  math(EXPR difference "${count_4000} - ${count_2000}")
  set(${result} ${difference} PARENT_SCOPE)
endfunction()

pairs(never)
pairs(once watched)
message(STATUS "2000 pairs: ${never} instructions, ${once} after it was watched")
if(NOT never EQUAL once)
  message(FATAL_ERROR "watching costs something after it has ended")
endif()
