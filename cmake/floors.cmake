# SPDX-License-Identifier: Apache-2.0
# One static library per folder of src/. A folder lists the folders below it that it may use, so that the
# build itself knows the floors of docs/architecture.md; tools/check_layers.py holds the includes to them.

add_library(indexshare_flags INTERFACE)
target_include_directories(indexshare_flags INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src>)
# -ffp-contract=off: a product and a sum fuse only where the code says fma, so results do not depend on inlining.
# -Wno-restrict: false alarms of g++ 12 on "text" + std::string (GCC bug 105651).
target_compile_options(indexshare_flags INTERFACE -Wall -Wextra -Wshadow -Wno-missing-field-initializers
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict> -ffp-contract=off -ffile-prefix-map=${PROJECT_SOURCE_DIR}/= $<$<BOOL:${INDEXSHARE_WERROR}>:-Werror>)
if(INDEXSHARE_SANITIZE)
  # The instrumentation hides from g++ which branch set a value.
  target_compile_options(indexshare_flags INTERFACE -fsanitize=${INDEXSHARE_SANITIZE}
    -fno-sanitize-recover=all -fno-omit-frame-pointer -Wno-maybe-uninitialized)
  target_link_options(indexshare_flags INTERFACE -fsanitize=${INDEXSHARE_SANITIZE})
endif()

# indexshare_floor(NAME [floors and libraries it uses...]) builds every .cpp of the current folder.
function(indexshare_floor name)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  if(NOT sources)  # a floor that is headers alone so far
    add_library(indexshare_${name} INTERFACE)
    target_link_libraries(indexshare_${name} INTERFACE indexshare_flags ${ARGN})
    return()
  endif()
  add_library(indexshare_${name} STATIC ${sources})
  target_link_libraries(indexshare_${name} PUBLIC indexshare_flags ${ARGN})
  set_property(GLOBAL APPEND PROPERTY INDEXSHARE_FLOORS indexshare_${name})
endfunction()

# indexshare_tests(NAME [libraries...]) builds one GoogleTest program from the *_test.cpp of the current folder.
function(indexshare_tests name)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  if(NOT sources)
    return()
  endif()
  add_executable(${name}_tests ${sources})
  target_link_libraries(${name}_tests PRIVATE ${ARGN} GTest::gtest_main)
  target_include_directories(${name}_tests PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_compile_definitions(${name}_tests PRIVATE INDEXSHARE_SOURCE_DIR="${PROJECT_SOURCE_DIR}"
    INDEXSHARE_BINARY_DIR="${PROJECT_BINARY_DIR}")
  gtest_discover_tests(${name}_tests TEST_PREFIX ${name}. DISCOVERY_TIMEOUT 60
    PROPERTIES LABELS ${name} FIXTURES_REQUIRED checkpoints)
endfunction()
