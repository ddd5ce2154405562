# Header packages and torch. All paths come from one Python call: find_package(Torch) fails for a CUDA
# build of torch on a machine without a CUDA toolkit, and the header packages of the Python index carry
# no CMake configuration.
if(CIMQ_TORCH)
  find_package(Python 3.10 REQUIRED COMPONENTS Interpreter Development.Module)
else()
  find_package(Python 3.10 REQUIRED COMPONENTS Interpreter)
endif()
find_package(Threads REQUIRED)

execute_process(
  COMMAND ${Python_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/query_packages.py --torch ${CIMQ_TORCH}
  OUTPUT_VARIABLE _query OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_VARIABLE _query_error RESULT_VARIABLE _query_result)
if(NOT _query_result EQUAL 0)
  message(FATAL_ERROR "cimq: ${_query_error}")
endif()
# query_packages.py prints KEY=value lines; lists are separated by semicolons.
string(REPLACE "\n" "|" _lines "${_query}")
string(REPLACE ";" "\\;" _lines "${_lines}")
string(REPLACE "|" ";" _lines "${_lines}")
foreach(_line IN LISTS _lines)
  string(REGEX MATCH "^([A-Z0-9_]+)=(.*)$" _ "${_line}")
  set(CIMQ_${CMAKE_MATCH_1} "${CMAKE_MATCH_2}")
endforeach()

add_library(cimq_json INTERFACE)
target_include_directories(cimq_json SYSTEM INTERFACE ${CIMQ_NLOHMANN_INCLUDE})

if(CIMQ_TORCH)
  add_library(cimq_torch INTERFACE)
  target_include_directories(cimq_torch SYSTEM INTERFACE ${CIMQ_TORCH_INCLUDES})
  target_link_directories(cimq_torch INTERFACE ${CIMQ_TORCH_LIB})
  set(_torch_libs c10 torch torch_cpu)
  if(CIMQ_TORCH_CUDA)
    # --no-as-needed would drop nothing here: the CUDA libraries are named only where CUDA code is built.
    list(APPEND _torch_libs c10_cuda torch_cuda)
  endif()
  target_link_libraries(cimq_torch INTERFACE ${_torch_libs})
  target_compile_definitions(cimq_torch INTERFACE _GLIBCXX_USE_CXX11_ABI=${CIMQ_TORCH_CXX11_ABI})
  if(CIMQ_TORCH_OPENMP)
    # at::parallel_for is a header: without these it silently runs on one thread.
    target_compile_definitions(cimq_torch INTERFACE AT_PARALLEL_OPENMP=1)
    target_compile_options(cimq_torch INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fopenmp>)
  endif()

  add_library(cimq_pybind INTERFACE)
  target_include_directories(cimq_pybind SYSTEM INTERFACE ${CIMQ_PYBIND11_INCLUDE})
  target_link_libraries(cimq_pybind INTERFACE Python::Module)
endif()
