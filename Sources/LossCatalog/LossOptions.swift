import BatchLoss

/// A hyper-parameter of a loss, by its name in commands (`--label-smoothing`) and in JSON (`labelSmoothing`).
package enum OptionName: String, Hashable, Sendable, CaseIterable {
  case delta, beta, quantile, labelSmoothing, ignoreIndex, zLoss, softCap, positiveWeight, gamma, alpha
  case temperature, logTargets, logInput, full, epsilon
  case blank, zeroInfinity, timeMajor
  case margin, mining, distance, swap, smooth, squared, linear, positiveMargin
  case scale, bias, base, regularization, normalization

  /// The name of the command's option: with hyphens, and with "no-" where there is only a way to switch it off.
  package var flag: String {
    let name = rawValue.reduce(into: "") { $0 += $1.isUppercase ? "-" + $1.lowercased() : String($1) }
    switch self {
    case .logInput, .normalization: return "no-" + name
    default: return name
    }
  }
}

/// The hyper-parameters given for one evaluation; what is not given keeps its default.
package struct LossOptions: Sendable {
  /// Numbers; flags are 1 and 0.
  package var values: [OptionName: Double]
  /// Words.
  package var words: [OptionName: String]

  package init(_ values: [OptionName: Double] = [:], words: [OptionName: String] = [:]) {
    self.values = values
    self.words = words
  }

  /// The names of everything given.
  package var names: Set<OptionName> { Set(values.keys).union(words.keys) }

  func number(_ name: OptionName, default value: Double) -> Double { values[name] ?? value }
  func flag(_ name: OptionName, default value: Bool = false) -> Bool { values[name].map { $0 != 0 } ?? value }

  /// A number that must be whole.
  func integer(_ name: OptionName, default value: Int) throws(BatchLossError) -> Int {
    guard let number = values[name] else { return value }
    guard let integer = Int(exactly: number) else {
      throw BatchLossError(
        .invalidParameter, parameter: name.rawValue, expected: "a whole number", actual: "\(number)")
    }
    return integer
  }

  /// One of several words, which commands and JSON write as the library does: `batch-hard`.
  func choice<Choice: RawRepresentable & CaseIterable>(
    _ name: OptionName, default value: Choice
  ) throws(BatchLossError) -> Choice where Choice.RawValue == String {
    guard let word = words[name] else { return value }
    guard let choice = Choice(rawValue: word) else {
      let names = Choice.allCases.map(\.rawValue).joined(separator: ", ")
      throw BatchLossError(
        .invalidParameter, parameter: name.rawValue, expected: "one of \(names)", actual: "'\(word)'")
    }
    return choice
  }
}
