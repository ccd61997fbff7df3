import Glibc

/// A regular file mapped for reading, all of it, until the object goes away.
final class MappedFile: @unchecked Sendable {
  // Sendable: the mapping is read-only and its address never changes.

  /// The contents; never empty, for an empty file is neither of the two formats.
  let bytes: UnsafeRawBufferPointer

  init(_ path: String) throws(TensorFileFault) {
    guard !path.containsNUL else {
      throw TensorFileFault(.cannotOpen, "cannot open: the path contains a NUL character")
    }
    // Without O_NONBLOCK, opening a FIFO would wait for a writer.
    let descriptor = retrying { open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK) }
    guard descriptor >= 0 else {
      throw TensorFileFault(.cannotOpen, "cannot open: \(systemMessage(errno))")
    }
    defer { close(descriptor) }

    var status = stat()
    guard fstat(descriptor, &status) == 0 else {
      throw TensorFileFault(.cannotOpen, "cannot examine: \(systemMessage(errno))")
    }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw TensorFileFault(
        .notARegularFile, "expected a regular file, found \(kindOfFile(status.st_mode))")
    }
    guard status.st_size > 0 else { throw TensorFileFault(.truncated, "truncated: the file is empty") }

    let address = mmap(nil, Int(status.st_size), PROT_READ, MAP_PRIVATE, descriptor, 0)
    guard let address, address != MAP_FAILED else {
      throw TensorFileFault(
        .cannotOpen, "cannot map \(status.st_size) bytes: \(systemMessage(errno))")
    }
    bytes = UnsafeRawBufferPointer(start: address, count: Int(status.st_size))
  }

  deinit { munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count) }

  /// Tells the system that the range will be read once, from front to back.
  func adviseSequential(_ range: Range<Int>) {
    let begin = range.lowerBound / pageSize * pageSize
    guard begin < range.upperBound, let base = bytes.baseAddress else { return }
    let address = UnsafeMutableRawPointer(mutating: base + begin)
    _ = madvise(address, range.upperBound - begin, Int32(MADV_SEQUENTIAL))
  }
}
