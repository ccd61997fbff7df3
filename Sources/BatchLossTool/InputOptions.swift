import ArgumentParser
import BatchLoss
import BatchLossCatalog

/// The inputs of an evaluation, by role.
struct InputOptions: ParsableArguments {
  @Option(help: "Predictions x.") var predictions: String?
  @Option(help: "Targets: numbers, class indices or distributions.") var targets: String?
  @Option(help: "Logits, one row a sample.") var logits: String?
  @Option(help: "Probabilities in 0…1.") var probabilities: String?
  @Option(help: "Logarithms of probabilities.") var logProbabilities: String?
  @Option(help: "Logits of the target distribution.") var targetLogits: String?
  @Option(help: "A factor for each sample.") var weights: String?
  @Option(help: "A factor for each class.") var classWeights: String?
  @Option(help: "How many frames of each utterance count.") var inputLengths: String?
  @Option(help: "How many labels each utterance has.") var targetLengths: String?

  /// What was given.
  var references: [Role: String] {
    var result: [Role: String] = [:]
    result[.predictions] = predictions
    result[.targets] = targets
    result[.logits] = logits
    result[.probabilities] = probabilities
    result[.logProbabilities] = logProbabilities
    result[.targetLogits] = targetLogits
    result[.weights] = weights
    result[.classWeights] = classWeights
    result[.inputLengths] = inputLengths
    result[.targetLengths] = targetLengths
    return result
  }
}

/// The hyper-parameters of an evaluation.
struct HyperparameterOptions: ParsableArguments {
  @Option(parsing: .unconditional, help: "Where huber turns linear.") var delta: Double?
  @Option(parsing: .unconditional, help: "The half-width of smooth-l1's quadratic part.") var beta: Double?
  @Option(parsing: .unconditional, help: "The quantile, 0 to 1.") var quantile: Double?
  @Option(parsing: .unconditional, help: "How much of each target is spread over all classes, 0 to 1.")
  var labelSmoothing: Double?
  @Option(parsing: .unconditional, help: "The label of rows that count for nothing (default -100).")
  var ignoreIndex: Int?
  @Option(parsing: .unconditional, help: "The factor on the squared log-sum-exp.") var zLoss: Double?
  @Option(parsing: .unconditional, help: "The bound c of logits capped as c·tanh(x/c).") var softCap: Double?
  @Option(parsing: .unconditional, help: "The factor on the loss of positives.") var positiveWeight: Double?
  @Option(parsing: .unconditional, help: "How strongly focal plays down what is right.") var gamma: Double?
  @Option(parsing: .unconditional, help: "The weight of positives in focal; negative for none.") var alpha: Double?
  @Option(parsing: .unconditional, help: "What logits are divided by.") var temperature: Double?
  @Flag(help: "Targets are logarithms of probabilities.") var logTargets = false
  @Flag(help: "Poisson predictions are rates, not their logarithms.") var noLogInput = false
  @Flag(help: "Add Stirling's term to poisson.") var full = false
  @Option(parsing: .unconditional, help: "Added to poisson rates before their logarithm.") var epsilon: Double?
  @Option(parsing: .unconditional, help: "The class that stands for no label.") var blank: Int?
  @Flag(help: "Targets that cannot be aligned cost 0 instead of infinity.") var zeroInfinity = false
  @Flag(help: "Frames are the first axis, utterances the second.") var timeMajor = false

  /// What was given.
  var options: LossOptions {
    var values: [OptionName: Double] = [:]
    values[.delta] = delta
    values[.beta] = beta
    values[.quantile] = quantile
    values[.labelSmoothing] = labelSmoothing
    values[.ignoreIndex] = ignoreIndex.map(Double.init)
    values[.zLoss] = zLoss
    values[.softCap] = softCap
    values[.positiveWeight] = positiveWeight
    values[.gamma] = gamma
    values[.alpha] = alpha
    values[.temperature] = temperature
    values[.logTargets] = logTargets ? 1 : nil
    values[.logInput] = noLogInput ? 0 : nil
    values[.full] = full ? 1 : nil
    values[.epsilon] = epsilon
    values[.blank] = blank.map(Double.init)
    values[.zeroInfinity] = zeroInfinity ? 1 : nil
    values[.timeMajor] = timeMajor ? 1 : nil
    return LossOptions(values)
  }
}

extension Reduction: ExpressibleByArgument {
  /// The name with hyphens.
  var flag: String {
    rawValue.reduce(into: "") { $0 += $1.isUppercase ? "-" + $1.lowercased() : String($1) }
  }

  public init?(argument: String) {
    guard let match = Self.allCases.first(where: { $0.flag == argument }) else { return nil }
    self = match
  }

  public static var allValueStrings: [String] { allCases.map(\.flag) }
}
