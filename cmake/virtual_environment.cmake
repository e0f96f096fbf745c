# ROS 2 from wheels, in a virtual environment. On a ROS distribution nothing in this file changes anything.

# Nothing sets the ament index there; its prefix is the environment itself.
if("$ENV{AMENT_PREFIX_PATH}" STREQUAL "")
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  execute_process(COMMAND "${Python3_EXECUTABLE}" -c "import sys; print(sys.prefix)"
    OUTPUT_VARIABLE _prefix OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(EXISTS "${_prefix}/share/ament_index")
    set(ENV{AMENT_PREFIX_PATH} "${_prefix}")
    list(APPEND CMAKE_PREFIX_PATH "${_prefix}")
  endif()
endif()

# Wheels export paths of the machine that built them (Python headers, system libraries), and CMake refuses to generate while an
# imported target names one that does not exist: drop these.
function(_drop_missing_paths _target _property)
  get_target_property(_paths ${_target} ${_property})
  if(NOT _paths)
    return()
  endif()
  set(_kept ${_paths})
  foreach(_path IN LISTS _paths)
    if(IS_ABSOLUTE "${_path}" AND NOT EXISTS "${_path}")
      list(REMOVE_ITEM _kept "${_path}")
    endif()
  endforeach()
  if(NOT "${_kept}" STREQUAL "${_paths}")
    set_target_properties(${_target} PROPERTIES ${_property} "${_kept}")
  endif()
endfunction()

# CMake also refuses to export a target that includes a folder below the source tree, where the environment often lies (.venv):
# such a folder (NumPy's headers) is needed for the build only.
function(_hide_source_paths _target)
  get_target_property(_paths ${_target} INTERFACE_INCLUDE_DIRECTORIES)
  set(_result)
  foreach(_path IN LISTS _paths)
    cmake_path(IS_PREFIX CMAKE_CURRENT_SOURCE_DIR "${_path}" _inside)
    if(_inside)
      set(_path "$<BUILD_INTERFACE:${_path}>")
    endif()
    list(APPEND _result "${_path}")
  endforeach()
  if(NOT "${_result}" STREQUAL "${_paths}")
    set_target_properties(${_target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${_result}")
  endif()
endfunction()

function(_fix_targets)
  get_property(_targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(_target IN LISTS _targets)
    _drop_missing_paths(${_target} INTERFACE_INCLUDE_DIRECTORIES)
    _drop_missing_paths(${_target} INTERFACE_LINK_LIBRARIES)
  endforeach()
  if(TARGET ${PROJECT_NAME}__rosidl_generator_py)
    _hide_source_paths(${PROJECT_NAME}__rosidl_generator_py)
  endif()
endfunction()
cmake_language(DEFER CALL _fix_targets)
