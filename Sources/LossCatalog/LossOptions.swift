/// A hyper-parameter of a loss, by its name in commands (`--label-smoothing`) and in JSON (`labelSmoothing`).
package enum OptionName: String, Hashable, Sendable, CaseIterable {
  case delta, beta, quantile, labelSmoothing, ignoreIndex, zLoss, softCap, positiveWeight, gamma, alpha
  case temperature, logTargets, logInput, full, epsilon

  /// The name with hyphens.
  package var flag: String {
    rawValue.reduce(into: "") { $0 += $1.isUppercase ? "-" + $1.lowercased() : String($1) }
  }
}

/// The hyper-parameters given for one evaluation; what is not given keeps its default.
package struct LossOptions: Sendable {
  package var values: [OptionName: Double]

  package init(_ values: [OptionName: Double] = [:]) { self.values = values }

  func number(_ name: OptionName, default value: Double) -> Double { values[name] ?? value }
  func flag(_ name: OptionName, default value: Bool = false) -> Bool { values[name].map { $0 != 0 } ?? value }
}
