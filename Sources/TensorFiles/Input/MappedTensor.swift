/// A tensor in a `.npy` or `.safetensors` file, mapped into memory for reading.
///
/// Opening reads the header only; elements are read from the file when they are touched. The mapping lasts
/// as long as the object. All methods may be called from several threads at once.
///
/// ```swift
/// let logits = try MappedTensor(opening: "batch.safetensors:logits")
/// var block = [Float](repeating: 0, count: 4096)
/// try block.withUnsafeMutableBufferPointer { try logits.read(into: $0, from: 0) }
/// logits.adviseDone(0..<4096)
/// ```
///
/// - Important: If another program truncates the file while it is mapped, touching the lost part ends this
///   program with SIGBUS; no reader of a memory-mapped file can turn that into an error. Files replaced by
///   renaming, as ``TensorOutput`` does, are safe: the mapping keeps the old contents.
public final class MappedTensor: Sendable, CustomStringConvertible {
  /// Where the tensor was opened from.
  public let reference: TensorReference
  private let file: MappedFile
  private let layout: TensorLayout
  /// Where the first element is, in bytes from the start of the file.
  private let dataOffset: Int

  /// Maps a file and checks its header.
  ///
  /// - Parameter reference: Where the tensor is.
  /// - Throws: ``TensorFileError`` with the code
  ///   - ``TensorFileError/Code/cannotOpen`` or ``TensorFileError/Code/notARegularFile`` if there is no
  ///     such file, it may not be read, or it is a directory, a FIFO or a device;
  ///   - ``TensorFileError/Code/notATensorFile``, ``TensorFileError/Code/unsupportedVersion``,
  ///     ``TensorFileError/Code/headerTooLarge`` or ``TensorFileError/Code/malformedHeader`` if its header
  ///     is not of the format;
  ///   - ``TensorFileError/Code/truncated`` if it is shorter than its header says (bytes after the end of
  ///     a `.npy` array are allowed, as in numpy);
  ///   - ``TensorFileError/Code/unsupportedElementType``, ``TensorFileError/Code/bigEndian``,
  ///     ``TensorFileError/Code/fortranOrder`` or ``TensorFileError/Code/invalidShape`` if the array is of
  ///     a kind that is not read. Fortran order is accepted where it is the same as C order, with at most
  ///     one extent other than 1;
  ///   - ``TensorFileError/Code/noSuchTensor``, ``TensorFileError/Code/duplicateTensor`` or
  ///     ``TensorFileError/Code/invalidOffsets`` for safetensors.
  public init(opening reference: TensorReference) throws(TensorFileError) {
    self.reference = reference
    do {
      file = try MappedFile(reference.path)
      if let name = reference.tensorName {
        let header = try SafetensorsHeader(of: file.bytes)
        let entry = try header.entry(named: name)
        layout = try entry.layout()
        dataOffset = header.dataOffset + entry.begin
      } else {
        let header = try NpyHeader(of: file.bytes)
        layout = header.layout
        dataOffset = header.dataOffset
      }
    } catch {
      throw error.inFile(reference.path)
    }
  }

  /// Maps a file and checks its header.
  ///
  /// - Parameter reference: `PATH.npy` or `FILE.safetensors:NAME`.
  /// - Throws: ``TensorFileError``: ``TensorFileError/Code/invalidReference`` if the text is neither, and the
  ///   errors of ``init(opening:)-(TensorReference)``.
  public convenience init(opening reference: String) throws(TensorFileError) {
    try self.init(opening: TensorReference(parsing: reference))
  }

  /// The extents, outermost first; empty for a scalar.
  public var shape: [Int] { layout.shape }
  /// The type of the elements in the file.
  public var elementType: TensorElementType { layout.elementType }
  /// The product of the extents: 1 for a scalar, 0 if any extent is 0.
  public var elementCount: Int { layout.elementCount }
  /// The size of all elements in bytes.
  public var byteCount: Int { layout.byteCount }
  /// The reference, the element type and the shape, for messages.
  public var description: String { "\(reference): \(layout.summary)" }

  // MARK: - In-place access

  /// Calls a closure with the bytes of the elements, in row-major order, little-endian.
  ///
  /// The bytes are as the file has them: at any alignment, and not necessarily valid as a Swift type. They
  /// must not be used after the closure returns.
  public func withBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
    try withExtendedLifetime(self) { () throws(E) in
      try body(file.bytes.slice(dataOffset..<dataOffset + byteCount))
    }
  }

  /// Calls a closure with the elements in place, without a copy.
  ///
  /// The elements must not be used after the closure returns. Every `.npy` file written by numpy or by
  /// ``TensorOutput`` is aligned. A safetensors file aligns its tensors only if its writer cared to;
  /// `read(into:from:)` works at any alignment and is the way to read such a tensor, block by block.
  ///
  /// - Parameters:
  ///   - type: The type that ``elementType`` has in Swift.
  ///   - body: Called once, with ``elementCount`` elements in row-major order.
  /// - Returns: What the closure returns.
  /// - Throws: ``TensorFileError/Code/elementTypeMismatch`` if the file holds another type,
  ///   ``TensorFileError/Code/misaligned`` if the elements are not aligned, and what the closure throws.
  public func withElements<T: TensorElement, R>(
    as type: T.Type, _ body: (UnsafeBufferPointer<T>) throws -> R
  ) throws -> R {
    guard elementType == T.tensorElementType else {
      throw error(.elementTypeMismatch, "expected \(T.tensorElementType) elements, found \(elementType)")
    }
    return try withBytes { bytes in
      guard !bytes.isEmpty else { return try body(UnsafeBufferPointer(start: nil, count: 0)) }
      guard UInt(bitPattern: bytes.baseAddress) % UInt(MemoryLayout<T>.alignment) == 0 else {
        throw error(
          .misaligned,
          "\(elementType) elements begin at byte \(dataOffset), which is not a multiple of their size")
      }
      return try body(bytes.bindMemory(to: T.self))
    }
  }

  // MARK: - Memory

  /// Tells the system that the elements will be read from front to back, so that it reads ahead.
  ///
  /// Only advice: reading in another order stays right and becomes slower.
  public func adviseSequential() { file.adviseSequential(dataOffset..<dataOffset + byteCount) }

  /// Lets go of the memory behind elements that have been consumed.
  ///
  /// With a call after each block, a pass over a file of any size keeps no more of it resident than one
  /// block, a page, and what the system reads ahead. Elements let go of are read from the file again if
  /// they are touched again, so calling this too early or twice costs time only.
  ///
  /// - Parameter elements: The range of elements; the part outside the tensor is ignored.
  public func adviseDone(_ elements: Range<Int>) {
    let elements = elements.clamped(to: 0..<elementCount)
    let size = elementType.byteCount
    let begin = dataOffset + elements.lowerBound * size
    var end = dataOffset + elements.upperBound * size
    // A page that only holds the end of this tensor, or of the file, has no later range to release it.
    if elements.upperBound == elementCount { end = min(end + pageSize - 1, file.bytes.count) }
    if !elements.isEmpty { releasePages(of: file.bytes, in: begin..<end) }
  }

  // MARK: - Errors and checked ranges

  /// Calls a closure with the address of a range of elements, after checking the range.
  func withElementBytes(
    _ offset: Int, count: Int, _ body: (UnsafeRawPointer) throws(TensorFileError) -> Void
  ) throws(TensorFileError) {
    guard offset >= 0, count <= elementCount, offset <= elementCount - count else {
      let (end, overflow) = offset.addingReportingOverflow(count)
      throw error(
        .outOfBounds,
        "elements \(offset)..<\(overflow ? "" : String(end)) asked for, the tensor has \(elementCount)")
    }
    guard count > 0 else { return }
    try withBytes { (bytes) throws(TensorFileError) in
      if let base = bytes.baseAddress { try body(base + offset * elementType.byteCount) }
    }
  }

  func error(_ code: TensorFileError.Code, _ message: String) -> TensorFileError {
    TensorFileError(code, file: reference.description, message)
  }
}
