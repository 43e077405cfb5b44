# How Bitcoin Core's consensus library is compiled here: for a quick build, not for a quick node. `.cargo/config.toml`
# names this file to cmake. Assertions stay: Bitcoin Core does not build without.
#
# Most of the time goes into headers, which are read once for all sources of a batch. The largest library, of some 80
# sources, is two batches: one for each of CI's processors.
set(CMAKE_UNITY_BUILD ON CACHE BOOL "")
set(CMAKE_UNITY_BUILD_BATCH_SIZE 45 CACHE STRING "")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O0" CACHE STRING "")
# The signatures, in C, are what the tests compute most.
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O1" CACHE STRING "")
