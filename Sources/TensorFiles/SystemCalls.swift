import Glibc

/// The text of an `errno` value.
func systemMessage(_ error: Int32) -> String { String(cString: strerror(error)) }

/// Repeats a call that returns -1 when a signal interrupted it.
func retrying(_ call: () -> Int32) -> Int32 {
  while true {
    let result = call()
    if result != -1 || errno != EINTR { return result }
  }
}

extension String {
  /// Whether the system would see another, shorter path.
  var containsNUL: Bool { utf8.contains(0) }
}

/// What a file that is not a regular one is, from its mode.
func kindOfFile(_ mode: mode_t) -> String {
  switch mode & S_IFMT {
  case S_IFDIR: "a directory"
  case S_IFIFO: "a FIFO"
  case S_IFSOCK: "a socket"
  case S_IFCHR, S_IFBLK: "a device"
  default: "not a regular file"
  }
}
