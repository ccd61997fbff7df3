import Glibc

/// A file that is being written and does not have its final name yet.
///
/// Where the file system can, the file has no name at all until ``link()``, so that whatever ends the
/// program leaves nothing behind. Elsewhere it has a hidden name in the same directory from the start.
struct UnfinishedFile: ~Copyable, @unchecked Sendable {
  // Sendable: nothing else changes the slot while the file has it.

  /// The directory is held open: a relative path means the same even if the program goes elsewhere.
  private let directory: Int32
  private let finalName: String
  private let descriptor: Int32
  /// The hidden name, or nil while there is none.
  private var temporary: UnsafeMutablePointer<TemporaryNames.Slot>?

  // Not among what Swift imports of Glibc; the same on all of Linux.
  private static let pathOnly: Int32 = 0o10000000
  private static let unnamed: Int32 = 0o20000000 | O_DIRECTORY

  /// Creates the file, empty.
  ///
  /// - Parameter unnamed: Whether to try first without a hidden name.
  init(creating path: String, unnamed: Bool) throws(TensorFileFault) {
    guard !path.containsNUL else {
      throw TensorFileFault(.cannotCreate, "cannot create: the path contains a NUL character")
    }
    // The last slash ends the directory.
    let (folder, name) =
      if let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) {
        (String(path[...slash]), String(path[path.utf8.index(after: slash)...]))
      } else {
        (".", path)
      }
    let directory = retrying { open(folder, Self.pathOnly | O_DIRECTORY | O_CLOEXEC) }
    guard directory >= 0 else {
      throw TensorFileFault(.cannotCreate, "cannot create, directory '\(folder)': \(systemMessage(errno))")
    }
    do {
      try Self.checkReplaceable(name, in: directory)
      (descriptor, temporary) = try Self.create(in: directory, unnamed: unnamed)
    } catch {
      close(directory)
      throw error
    }
    self.directory = directory
    finalName = name
  }

  deinit {
    if let temporary {
      unlinkat(directory, temporary.pointee.name, 0)
      TemporaryNames.giveBack(temporary)
    }
    close(descriptor)
    close(directory)
  }

  /// Checks early what renaming would refuse in the end: there may be a file to replace, and nothing else.
  private static func checkReplaceable(_ name: String, in directory: Int32) throws(TensorFileFault) {
    var status = stat()
    guard fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else {
      if errno == ENOENT { return }
      throw TensorFileFault(.cannotCreate, "cannot create: \(systemMessage(errno))")
    }
    guard [S_IFREG, S_IFLNK].contains(status.st_mode & S_IFMT) else {
      throw TensorFileFault(.cannotCreate, "cannot replace what exists: it is \(kindOfFile(status.st_mode))")
    }
  }

  private static func create(
    in directory: Int32, unnamed: Bool
  ) throws(TensorFileFault) -> (Int32, UnsafeMutablePointer<TemporaryNames.Slot>?) {
    if unnamed {
      let descriptor = retrying { openat(directory, ".", Self.unnamed | O_RDWR | O_CLOEXEC, 0o666) }
      if descriptor >= 0 {
        if access(linkPath(descriptor), F_OK) == 0 { return (descriptor, nil) }
        close(descriptor)  // No /proc: the file could never be given a name.
      }
    }
    let slot = TemporaryNames.take(in: directory)
    while true {
      let descriptor = retrying {
        openat(directory, slot.pointee.name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
      }
      if descriptor >= 0 { return (descriptor, slot) }
      guard errno == EEXIST else { break }
      TemporaryNames.rename(slot, in: directory)
    }
    let error = errno
    TemporaryNames.giveBack(slot)
    throw TensorFileFault(.cannotCreate, "cannot create: \(systemMessage(error))")
  }

  private static func linkPath(_ descriptor: Int32) -> String { "/proc/self/fd/\(descriptor)" }

  // MARK: - Contents

  /// Gives the file its size and maps it for writing.
  func map(byteCount: Int) throws(TensorFileFault) -> UnsafeMutableRawBufferPointer {
    try reserve(byteCount)
    let address = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0)
    guard let address, address != MAP_FAILED else {
      throw TensorFileFault(.cannotCreate, "cannot map \(byteCount) bytes: \(systemMessage(errno))")
    }
    return UnsafeMutableRawBufferPointer(start: address, count: byteCount)
  }

  /// Allocates the whole file, so that writing through the map cannot find the disk full.
  private func reserve(_ byteCount: Int) throws(TensorFileFault) {
    // Allocating in vain would fill the disk first and then give the space back. Root may use what is
    // reserved for it, and some network file systems report nothing at all.
    var space = statvfs()
    if fstatvfs(descriptor, &space) == 0, space.f_blocks > 0 {
      let free = space.f_bfree.multipliedReportingOverflow(by: space.f_frsize)
      guard free.overflow || UInt(byteCount) <= free.partialValue else {
        throw TensorFileFault(
          .diskFull, "disk full: expected room for \(byteCount) bytes, \(free.partialValue) are free")
      }
    }
    var error: Int32
    repeat { error = posix_fallocate(descriptor, 0, byteCount) } while error == EINTR
    if [EOPNOTSUPP, EINVAL, ENODEV, ENOSYS].contains(error) {
      error = ftruncate(descriptor, byteCount) == 0 ? 0 : errno
    }
    guard error == 0 else {
      throw TensorFileFault(
        error == ENOSPC || error == EDQUOT ? .diskFull : .cannotCreate,
        "cannot reserve \(byteCount) bytes: \(systemMessage(error))")
    }
  }

  // MARK: - Publication

  /// Gives the file its hidden name, if it has none yet.
  mutating func link() throws(TensorFileFault) {
    guard temporary == nil else { return }
    let slot = TemporaryNames.take(in: directory)
    while linkat(AT_FDCWD, Self.linkPath(descriptor), directory, slot.pointee.name, AT_SYMLINK_FOLLOW) != 0 {
      let error = errno
      guard error == EEXIST else {
        TemporaryNames.giveBack(slot)
        throw TensorFileFault(.cannotCommit, "cannot give the output a name: \(systemMessage(error))")
      }
      TemporaryNames.rename(slot, in: directory)
    }
    temporary = slot
  }

  /// Renames the file from its hidden name to the final one, and says whether that replaced another file.
  func publish() throws(TensorFileFault) -> Bool {
    guard let temporary else { throw TensorFileFault(.cannotCommit, "cannot rename a file without a name") }
    let replaces = faccessat(directory, finalName, F_OK, AT_SYMLINK_NOFOLLOW) == 0
    guard renameat(directory, temporary.pointee.name, directory, finalName) == 0 else {
      throw TensorFileFault(.cannotCommit, "cannot rename into place: \(systemMessage(errno))")
    }
    return replaces
  }

  /// Takes ``publish()`` back.
  func withdraw() {
    if let temporary { _ = renameat(directory, finalName, directory, temporary.pointee.name) }
  }

  /// Makes ``publish()`` final.
  mutating func settle() {
    if let temporary { TemporaryNames.giveBack(temporary) }
    temporary = nil
  }

  /// Where the file will be, to find two outputs with the same final name.
  var identity: FileIdentity {
    var status = stat()
    _ = fstat(directory, &status)
    return FileIdentity(device: status.st_dev, directory: status.st_ino, name: Array(finalName.utf8))
  }
}

/// A directory and a name in it, however the path is spelt.
struct FileIdentity: Hashable {
  let device: dev_t
  let directory: ino_t
  let name: [UInt8]
}
