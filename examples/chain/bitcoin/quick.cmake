# How Bitcoin Core's consensus library is compiled here: with few optimisations and no debug information, which takes a
# third less time. `.cargo/config.toml` names this file to cmake. Assertions stay: Bitcoin Core does not build without.
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O1" CACHE STRING "")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O1" CACHE STRING "")
