/// Why a tensor file could not be read or written.
///
/// The description is always one line of the form `FILE: what was expected and what came instead`.
/// Control characters that came from the file or its name are escaped, and long names are shortened, so
/// the line can be printed as it is.
public struct TensorFileError: Error, Sendable, Equatable, CustomStringConvertible {
  /// What kind of thing went wrong, for programs; new codes may be added.
  public let code: Code
  /// The path or reference as the caller gave it, with control characters escaped.
  public let file: String
  /// What was expected and what came, without the file name.
  public let message: String

  /// Creates an error about one file.
  ///
  /// - Parameters:
  ///   - code: The kind of failure.
  ///   - file: The path or reference, as given.
  ///   - message: What was expected and what came. Control characters are escaped.
  public init(_ code: Code, file: String, _ message: String) {
    self.code = code
    self.file = file.escapingControlCharacters()
    self.message = message.escapingControlCharacters()
  }

  /// `FILE: message`, one line.
  public var description: String { "\(file): \(message)" }
}

// MARK: - Codes

extension TensorFileError {
  /// The kind of a ``TensorFileError``.
  public struct Code: Sendable, Hashable, CustomStringConvertible {
    /// The name of the code, as spelt in Swift.
    public let description: String

    private init(_ name: String) { description = name }

    /// The text is neither `PATH.npy` nor `FILE.safetensors:NAME`.
    public static let invalidReference = Code("invalidReference")
    /// The operating system refused to open or map the file.
    public static let cannotOpen = Code("cannotOpen")
    /// The path is a directory, a FIFO, a socket or a device.
    public static let notARegularFile = Code("notARegularFile")
    /// The first bytes are not those of the format.
    public static let notATensorFile = Code("notATensorFile")
    /// The `.npy` format version is not 1.0, 2.0 or 3.0.
    public static let unsupportedVersion = Code("unsupportedVersion")
    /// The header claims to be longer than any sensible header.
    public static let headerTooLarge = Code("headerTooLarge")
    /// The header breaks the grammar of its format.
    public static let malformedHeader = Code("malformedHeader")
    /// Objects, structures, strings, dates, complex numbers and other elements that are not read.
    public static let unsupportedElementType = Code("unsupportedElementType")
    /// Elements of several bytes stored most significant byte first.
    public static let bigEndian = Code("bigEndian")
    /// An array in column-major order whose order matters.
    public static let fortranOrder = Code("fortranOrder")
    /// The shape is negative, or its size in bytes does not fit in `Int`.
    public static let invalidShape = Code("invalidShape")
    /// The file ends before its header says it does.
    public static let truncated = Code("truncated")
    /// The offsets of a safetensors header do not tile the data, or contradict a shape.
    public static let invalidOffsets = Code("invalidOffsets")
    /// A safetensors header names a tensor twice.
    public static let duplicateTensor = Code("duplicateTensor")
    /// The safetensors file holds no tensor of that name.
    public static let noSuchTensor = Code("noSuchTensor")

    /// Elements were asked for as a type that cannot take them.
    public static let elementTypeMismatch = Code("elementTypeMismatch")
    /// Typed access to elements that are not aligned in memory.
    public static let misaligned = Code("misaligned")
    /// Elements before the first or after the last were asked for.
    public static let outOfBounds = Code("outOfBounds")
    /// An integer that the destination type cannot hold.
    public static let unrepresentable = Code("unrepresentable")

    /// The output could not be created.
    public static let cannotCreate = Code("cannotCreate")
    /// There is no room for the whole output.
    public static let diskFull = Code("diskFull")
    /// The output could not be moved to its final name.
    public static let cannotCommit = Code("cannotCommit")
    /// The output was committed before.
    public static let alreadyCommitted = Code("alreadyCommitted")
  }
}

// MARK: - Text

/// An error found where the name of the file is not known.
struct TensorFileFault: Error {
  let code: TensorFileError.Code
  let message: String

  init(_ code: TensorFileError.Code, _ message: String) {
    self.code = code
    self.message = message
  }

  func inFile(_ file: String) -> TensorFileError { TensorFileError(code, file: file, message) }
}

extension String {
  /// The string on one line: line breaks, escapes and other control characters are spelt out.
  func escapingControlCharacters() -> String {
    guard unicodeScalars.contains(where: \.breaksLines) else { return self }
    var result = ""
    for scalar in unicodeScalars {
      result += scalar.breaksLines ? scalar.escaped(asASCII: true) : String(scalar)
    }
    return result
  }

  /// The string in single quotes, cut after 60 characters: what came from a file may be of any length.
  var quoted: String {
    let limit = 60
    // Scalars, not characters: one character may be arbitrarily long.
    let start = unicodeScalars.prefix(limit + 1)
    return start.count > limit ? "'\(String(start.dropLast()))…'" : "'\(self)'"
  }
}

extension Unicode.Scalar {
  fileprivate var breaksLines: Bool {
    switch properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator: true
    default: false
    }
  }
}
