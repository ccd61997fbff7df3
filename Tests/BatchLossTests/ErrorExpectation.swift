import BatchLoss
import Testing

/// Expects a call to throw an error of the package that names a parameter and says what came, in one line.
func expectError(
  _ code: BatchLossError.Code, _ parameter: String, mentioning words: String..., by body: () throws -> Void,
  at location: SourceLocation = #_sourceLocation
) {
  do {
    try body()
    Issue.record("no error was thrown for \(parameter)", sourceLocation: location)
  } catch let error as BatchLossError {
    #expect(error.code == code, sourceLocation: location)
    #expect(error.parameter == parameter, sourceLocation: location)
    #expect(!error.description.contains("\n"), sourceLocation: location)
    for word in words {
      #expect(error.description.contains(word), "\(error.description)", sourceLocation: location)
    }
  } catch {
    Issue.record("\(error) is not an error of the package", sourceLocation: location)
  }
}
