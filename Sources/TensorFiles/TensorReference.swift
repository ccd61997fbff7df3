/// Where a tensor is: `PATH.npy`, or `FILE.safetensors:NAME`.
///
/// The name begins after the first `.safetensors:`, so it may itself contain colons and dots.
public struct TensorReference: Sendable, Hashable, CustomStringConvertible {
  /// The path of the file.
  public let path: String
  /// The name of the tensor in a safetensors file, or nil for a `.npy` file, which holds one array.
  public let tensorName: String?

  private init(path: String, tensorName: String?) {
    self.path = path
    self.tensorName = tensorName
  }

  /// A reference to a `.npy` file, whatever its path ends with.
  public static func npy(_ path: String) -> TensorReference {
    TensorReference(path: path, tensorName: nil)
  }

  /// A reference to one tensor of a safetensors file, whatever its path ends with.
  public static func safetensors(_ path: String, tensor name: String) -> TensorReference {
    TensorReference(path: path, tensorName: name)
  }

  /// Takes a reference apart. No file is looked at.
  ///
  /// - Parameter text: `PATH.npy` or `FILE.safetensors:NAME`.
  /// - Throws: ``TensorFileError/Code/invalidReference`` for anything else.
  public init(parsing text: String) throws(TensorFileError) {
    let marker = ".safetensors:".utf8
    if let range = text.utf8.firstRange(of: marker) {
      let colon = text.utf8.index(before: range.upperBound)
      let name = String(text[range.upperBound...])
      guard !name.isEmpty else { throw Self.missingName(text) }
      self.init(path: String(text[..<colon]), tensorName: name)
    } else if text.hasSuffix(".npy") {
      self.init(path: text, tensorName: nil)
    } else if text.hasSuffix(".safetensors") {
      throw Self.missingName(text)
    } else {
      throw TensorFileError(
        .invalidReference, file: text, "expected PATH.npy or FILE.safetensors:NAME")
    }
  }

  private static func missingName(_ text: String) -> TensorFileError {
    TensorFileError(
      .invalidReference, file: text,
      "a safetensors file needs the name of a tensor: FILE.safetensors:NAME")
  }

  /// The reference as text: the path, and for safetensors a colon and the name.
  public var description: String {
    if let tensorName { "\(path):\(tensorName)" } else { path }
  }
}
