# SPDX-License-Identifier: Apache-2.0
# Every library the project uses, all Debian packages; setup.sh installs them.
find_package(Threads REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)  # JSON
find_package(CLI11 REQUIRED)               # command line
find_package(spdlog REQUIRED)              # logging
find_package(fmt REQUIRED)                 # formatting (g++ 12 has no <format>)
find_package(PkgConfig REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)  # pre-tokenizer patterns
pkg_check_modules(HWY REQUIRED IMPORTED_TARGET libhwy)        # portable SIMD
if(INDEXSHARE_TESTS)
  find_package(GTest REQUIRED)
endif()
