/// What is wrong with an argument, said before any output is written.
///
/// Every call of this package checks its arguments first; when it throws, its outputs hold what they held
/// before. The ``description`` is one line that names the parameter, what was expected and what came.
public struct BatchLossError: Error, Hashable, Sendable, CustomStringConvertible {
  /// The kind of mistake. Codes may be added in later versions.
  public struct Code: Hashable, Sendable, CustomStringConvertible {
    private enum Value: String {
      case invalidShape, invalidParameter, invalidLabel, invalidLength, valueOutOfRange
      case unsupportedCombination, unsupportedInstructionSet
    }
    private let value: Value

    /// Rows, columns, strides or counts that do not fit each other or the memory behind them.
    public static let invalidShape = Code(value: .invalidShape)
    /// A hyper-parameter outside its range.
    public static let invalidParameter = Code(value: .invalidParameter)
    /// A class index that names no class.
    public static let invalidLabel = Code(value: .invalidLabel)
    /// A sequence length beyond its array, or negative.
    public static let invalidLength = Code(value: .invalidLength)
    /// An element outside the domain of the loss.
    public static let valueOutOfRange = Code(value: .valueOutOfRange)
    /// Arguments that are fine alone and have no meaning together.
    public static let unsupportedCombination = Code(value: .unsupportedCombination)
    /// An instruction set that this processor or this build lacks.
    public static let unsupportedInstructionSet = Code(value: .unsupportedInstructionSet)

    /// The name of the code.
    public var description: String { value.rawValue }
  }

  /// The kind of mistake.
  public let code: Code
  /// The parameter at fault, by its name in the call.
  public let parameter: String
  /// What the call needs.
  public let expected: String
  /// What it got.
  public let actual: String

  /// An error about one parameter.
  public init(_ code: Code, parameter: String, expected: String, actual: String) {
    self.code = code
    self.parameter = parameter
    self.expected = expected
    self.actual = actual
  }

  /// One line: parameter, expected, actual.
  public var description: String { "\(parameter): expected \(expected), got \(actual)" }
}

extension BatchLossError {
  /// Checks a hyper-parameter.
  package static func require(
    _ condition: Bool, _ parameter: String, _ value: Double, _ expected: String
  ) throws(BatchLossError) {
    guard condition else {
      throw BatchLossError(
        .invalidParameter, parameter: parameter, expected: expected, actual: "\(value)")
    }
  }
}
