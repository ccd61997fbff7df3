import Glibc
import Synchronization

/// A `.npy` file that is written through memory and appears under its name only when it is complete.
///
/// The file is created at its full size, so that a full disk is an error here and not in the middle of the
/// work, and its elements begin as zeros. ``commit()`` moves it to its final name in one step: another
/// program sees either what was there before or the whole new file. Dropped without a commit, it leaves
/// nothing behind.
///
/// ```swift
/// let output = try TensorOutput(creating: "loss.npy", elementType: .float32, shape: [rows])
/// try output.withMutableElements(as: Float.self) { losses in … }
/// try output.commit()
/// ```
///
/// Until the commit the file has no name at all (`O_TMPFILE`), so that even `kill -9` leaves nothing. On file
/// systems without that, NFS for example, it has a hidden name `.npy-….tmp` in the same directory; a program
/// that ends by a signal or `exit` before its outputs are dropped removes those with ``removeTemporaries()``.
///
/// Several threads may write at once as long as they write different elements.
public final class TensorOutput: @unchecked Sendable, CustomStringConvertible {
  // Sendable: the address of the mapping never changes, and the file is behind a lock.

  /// The final path, as given.
  public let path: String
  private let layout: TensorLayout
  private let mapping: UnsafeMutableRawBufferPointer
  /// Where the first element is, in bytes from the start of the file; a multiple of 64.
  private let dataOffset: Int
  private let state: Mutex<State>

  private struct State: ~Copyable, Sendable {
    var file: UnfinishedFile
    var isCommitted = false
  }

  /// Creates an output at full size, filled with zeros.
  ///
  /// The directory must exist and be writable. A file of that name is replaced at the commit, as is a
  /// symbolic link; it is not followed. The new file has the permissions that the umask leaves.
  ///
  /// - Parameters:
  ///   - path: The final path, which ends in `.npy`.
  ///   - elementType: The type of the elements.
  ///   - shape: The extents, outermost first; empty for a scalar. Extents may be 0.
  /// - Throws: ``TensorFileError`` with the code ``TensorFileError/Code/invalidReference`` for a path that
  ///   does not end in `.npy`, ``TensorFileError/Code/invalidShape`` for a negative extent or a shape too
  ///   large for 64 bits, ``TensorFileError/Code/headerTooLarge`` for thousands of extents,
  ///   ``TensorFileError/Code/diskFull``, or ``TensorFileError/Code/cannotCreate``.
  public convenience init(
    creating path: String, elementType: TensorElementType, shape: [Int]
  ) throws(TensorFileError) {
    try self.init(creating: path, elementType: elementType, shape: shape, unnamed: true)
  }

  /// Creates an output, with a hidden name from the start unless `unnamed`.
  package init(
    creating path: String, elementType: TensorElementType, shape: [Int], unnamed: Bool
  ) throws(TensorFileError) {
    self.path = path
    do throws(TensorFileFault) {
      guard path.hasSuffix(".npy") else {
        throw TensorFileFault(.invalidReference, "expected a path that ends in .npy")
      }
      layout = try TensorLayout(elementType, shape: shape)
      let header = try NpyHeader.encode(layout)
      dataOffset = header.count
      let (size, overflow) = layout.byteCount.addingReportingOverflow(header.count)
      guard !overflow else {
        throw TensorFileFault(.invalidShape, "overflowing shape: \(layout.summary) and a header")
      }
      let file = try UnfinishedFile(creating: path, unnamed: unnamed)
      mapping = try file.map(byteCount: size)
      mapping.copyBytes(from: header)
      state = Mutex(State(file: file))
    } catch {
      throw error.inFile(path)
    }
  }

  deinit { munmap(mapping.baseAddress, mapping.count) }

  /// The extents, outermost first; empty for a scalar.
  public var shape: [Int] { layout.shape }
  /// The type of the elements.
  public var elementType: TensorElementType { layout.elementType }
  /// The product of the extents: 1 for a scalar, 0 if any extent is 0.
  public var elementCount: Int { layout.elementCount }
  /// The size of all elements in bytes.
  public var byteCount: Int { layout.byteCount }
  /// The path, the element type and the shape, for messages.
  public var description: String { "\(path): \(layout.summary)" }

  // MARK: - Writing

  /// Calls a closure with the bytes of the elements, in row-major order, aligned to 64 bytes.
  ///
  /// The bytes must not be used after the closure returns.
  ///
  /// - Throws: ``TensorFileError/Code/alreadyCommitted`` after a commit, and what the closure throws.
  public func withMutableBytes<R>(_ body: (UnsafeMutableRawBufferPointer) throws -> R) throws -> R {
    guard !state.withLock({ $0.isCommitted }) else {
      throw error(.alreadyCommitted, "the output is committed and can no longer be written")
    }
    return try withExtendedLifetime(self) {
      try body(UnsafeMutableRawBufferPointer(rebasing: mapping[dataOffset..<dataOffset + byteCount]))
    }
  }

  /// Calls a closure with the elements, in row-major order, aligned to 64 bytes.
  ///
  /// The elements must not be used after the closure returns.
  ///
  /// - Parameters:
  ///   - type: The type that ``elementType`` has in Swift. For bfloat16 and bool there is none, see
  ///     ``withMutableBytes(_:)``.
  ///   - body: Called once, with ``elementCount`` elements.
  /// - Returns: What the closure returns.
  /// - Throws: ``TensorFileError/Code/elementTypeMismatch`` if the output has another type,
  ///   ``TensorFileError/Code/alreadyCommitted`` after a commit, and what the closure throws.
  public func withMutableElements<T: TensorElement, R>(
    as type: T.Type, _ body: (UnsafeMutableBufferPointer<T>) throws -> R
  ) throws -> R {
    guard elementType == T.tensorElementType else {
      throw error(.elementTypeMismatch, "expected \(T.tensorElementType) elements, found \(elementType)")
    }
    return try withMutableBytes { try body($0.bindMemory(to: T.self)) }
  }

  /// Lets go of the memory behind elements that have been written.
  ///
  /// The elements go to the file as the system finds time; they may still be read and written again. With a
  /// call after each block, an output of any size keeps little of it resident.
  ///
  /// - Parameter elements: The range of elements; the part outside the output is ignored.
  public func adviseDone(_ elements: Range<Int>) {
    let elements = elements.clamped(to: 0..<elementCount)
    guard !elements.isEmpty else { return }
    let size = elementType.byteCount
    let range = dataOffset + elements.lowerBound * size..<dataOffset + elements.upperBound * size
    releasePages(of: UnsafeRawBufferPointer(mapping), in: range)
  }

  // MARK: - State

  /// Runs a step of a commit on the file, which must not have been committed before.
  func withUncommittedFile<R>(
    _ step: (inout UnfinishedFile) throws(TensorFileFault) -> R
  ) throws(TensorFileError) -> R {
    do {
      return try state.withLock { (state) throws(TensorFileFault) in
        guard !state.isCommitted else {
          throw TensorFileFault(.alreadyCommitted, "the output was committed before")
        }
        return try step(&state.file)
      }
    } catch {
      throw error.inFile(path)
    }
  }

  /// Ends the commit: the file keeps its final name whatever happens.
  func settle() {
    state.withLock { state in
      state.file.settle()
      state.isCommitted = true
    }
  }

  func error(_ code: TensorFileError.Code, _ message: String) -> TensorFileError {
    TensorFileError(code, file: path, message)
  }
}
