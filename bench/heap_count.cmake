# Instructions of an allocation and its free, exactly: -DCOUNT= (the program), -DVALGRIND=, -DSIZE=,
# -DLIMITS=SIDE=MOST,... Fails where a side takes more than MOST; MOST 0 is for peers: printed only,
# and they may be absent.
# SPDX-License-Identifier: MIT

set(first 2000)
set(second 4000)
math(EXPR pairs "${second} - ${first}")

# Instructions of a run; empty: there is no such side.
function(count side many result)
  execute_process(
    COMMAND ${CMAKE_COMMAND} -E env GLIBC_TUNABLES=glibc.rtld.optional_static_tls=8192
      ${VALGRIND} --tool=callgrind --callgrind-out-file=/dev/null ${COUNT} ${side} ${SIZE} ${many}
    ERROR_VARIABLE log OUTPUT_QUIET RESULT_VARIABLE status)
  if(status EQUAL 2)
    set(${result} "" PARENT_SCOPE)
  elseif(NOT status EQUAL 0 OR NOT log MATCHES "Collected : ([0-9]+)")
    message(FATAL_ERROR "${side}: ${status}, ${log}")
  else()
    set(${result} ${CMAKE_MATCH_1} PARENT_SCOPE)
  endif()
endfunction()

# Instructions of a turn of the loop, rounded up.
function(turn side result)
  count(${side} ${first} few)
  set(${result} "" PARENT_SCOPE)
  if(NOT few STREQUAL "")
    count(${side} ${second} many)
    math(EXPR instructions "(${many} - ${few} + ${pairs} - 1) / ${pairs}")
    set(${result} ${instructions} PARENT_SCOPE)
  endif()
endfunction()

turn(empty loop)
string(REPLACE "," ";" LIMITS "${LIMITS}")
foreach(limit IN LISTS LIMITS)
  if(NOT limit MATCHES "^([a-z-]+)=([0-9]+)$")
    message(FATAL_ERROR "what is ${limit}?")
  endif()
  set(side ${CMAKE_MATCH_1})
  set(most ${CMAKE_MATCH_2})
  turn(${side} instructions)
  if(instructions STREQUAL "")
    message(STATUS "${side}: absent")
    if(most GREATER 0)
      message(SEND_ERROR "${side} has to be there")
    endif()
    continue()
  endif()
  math(EXPR instructions "${instructions} - ${loop} + 3")
  message(STATUS "${side}: ${instructions} instructions a pair of ${SIZE} bytes")
  if(most GREATER 0 AND instructions GREATER most)
    message(SEND_ERROR "${side}: ${instructions} instructions, at most ${most}")
  endif()
endforeach()
