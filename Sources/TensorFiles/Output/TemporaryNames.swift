import Glibc
import Synchronization

/// The hidden names of files that are not finished, so that a signal handler can remove them.
///
/// The names form a list that only grows: a slot that was given back is used again, and none is freed. So
/// ``removeAll()`` may run at any moment, on any thread, in a signal handler: it takes no lock and allocates
/// nothing. At worst it meets a slot that is just changing, and then removes a name that does not exist.
enum TemporaryNames {
  /// One directory entry.
  struct Slot: ~Copyable {
    fileprivate let isTaken: Atomic<Bool>
    fileprivate let next: UnsafeMutablePointer<Slot>?
    /// A descriptor of the directory, or -1 while there is nothing to remove.
    fileprivate let directory: Atomic<Int32>
    /// The name in that directory, of fixed length.
    let name: UnsafeMutablePointer<CChar>
  }

  // An atomic reference to atomics; Swift cannot see that a pointer leads to what may be shared.
  nonisolated(unsafe) private static let head = Atomic<UnsafeMutablePointer<Slot>?>(nil)
  /// `.npy-`, 16 hexadecimal digits, `.tmp` and NUL.
  private static let nameCapacity = 5 + 16 + 4 + 1

  /// Invents a name in a directory. It must be given back before the descriptor is closed.
  static func take(in directory: Int32) -> UnsafeMutablePointer<Slot> {
    let slot = takeFreeSlot() ?? makeSlot()
    rename(slot, in: directory)
    return slot
  }

  /// Invents another name, because there was a file of the first one.
  static func rename(_ slot: UnsafeMutablePointer<Slot>, in directory: Int32) {
    slot.pointee.directory.store(-1, ordering: .sequentiallyConsistent)
    let digits = String(UInt64.random(in: .min ... .max), radix: 16)
    let name = ".npy-" + String(repeating: "0", count: 16 - digits.utf8.count) + digits + ".tmp"
    _ = name.withCString { strcpy(slot.pointee.name, $0) }
    slot.pointee.directory.store(directory, ordering: .sequentiallyConsistent)
  }

  /// Forgets a name, without removing anything.
  static func giveBack(_ slot: UnsafeMutablePointer<Slot>) {
    slot.pointee.directory.store(-1, ordering: .sequentiallyConsistent)
    slot.pointee.isTaken.store(false, ordering: .sequentiallyConsistent)
  }

  /// Removes all directory entries that are taken. Async-signal-safe.
  static func removeAll() {
    let error = errno
    var slot = head.load(ordering: .sequentiallyConsistent)
    while let current = slot {
      let directory = current.pointee.directory.load(ordering: .sequentiallyConsistent)
      if directory >= 0 { unlinkat(directory, current.pointee.name, 0) }
      slot = current.pointee.next
    }
    errno = error
  }

  private static func takeFreeSlot() -> UnsafeMutablePointer<Slot>? {
    var slot = head.load(ordering: .sequentiallyConsistent)
    while let current = slot {
      let result = current.pointee.isTaken.compareExchange(
        expected: false, desired: true, ordering: .sequentiallyConsistent)
      if result.exchanged { return current }
      slot = current.pointee.next
    }
    return nil
  }

  private static func makeSlot() -> UnsafeMutablePointer<Slot> {
    let slot = UnsafeMutablePointer<Slot>.allocate(capacity: 1)
    let name = UnsafeMutablePointer<CChar>.allocate(capacity: nameCapacity)
    name.initialize(repeating: 0, count: nameCapacity)
    var first = head.load(ordering: .sequentiallyConsistent)
    while true {
      slot.initialize(to: Slot(isTaken: Atomic(true), next: first, directory: Atomic(-1), name: name))
      let result = head.compareExchange(
        expected: first, desired: slot, ordering: .sequentiallyConsistent)
      if result.exchanged { return slot }
      first = result.original
      slot.deinitialize(count: 1)
    }
  }
}
