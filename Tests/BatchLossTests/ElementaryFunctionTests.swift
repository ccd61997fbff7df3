// What is checked: exp, log and their relatives as the kernels compute them, on every level this processor has,
// at every special value and on a sample of ordinary ones. `make check-elementary-functions` goes over every
// float there is.
// Against: the C library, in float64 for Float and in 80 bits for Double.
// Tolerance: the error in ulp that docs/numerics.md states; zeros, infinities and NaN exactly.

import BatchLoss
import BatchLossKernelInterface
import BatchLossTestSupport
import Testing

@Suite("Elementary functions")
struct ElementaryFunctionTests {
  @Test("Float: special values and every 41 299th float", arguments: ElementaryFunction.allCases)
  func float(_ function: ElementaryFunction) {
    // A prime step, so that no bit of the significand stays the same: about 104 000 floats.
    let sampled = stride(from: 0, to: 1 << 32, by: 41_299).map { Float(bitPattern: UInt32($0)) }
    let arguments = (specialArguments(Float.self) + specialNaN.float + sampled)
      .filter { $0.isNaN || function.domain.contains(Double($0)) }
    let exact = arguments.map { function.exact(Double($0)) }
    for level in InstructionSet.available {
      let results = apply(function, to: arguments, on: level)
      var worst = WorstError<Float>()
      worst.update(
        function, arguments: arguments, exact: exact, results: results, count: arguments.count)
      #expect(
        worst.ulp <= function.statedError, "\(level) at \(worst.argument): \(worst.result)")
      for (argument, result) in zip(arguments, results) where argument.isNaN { #expect(result.isNaN) }
    }
  }

  #if arch(x86_64)
    @Test("Double: special values and 100 000 random ones", arguments: ElementaryFunction.allCases)
    func double(_ function: ElementaryFunction) {
      var random = RandomSource(seed: 1)
      let sampled = (0..<100_000).map { index in
        index % 2 == 0 ? Double(bitPattern: random.next()) : random.uniform(-64...64)
      }
      let arguments = (specialArguments(Double.self) + specialNaN.double + sampled)
        .filter { $0.isNaN || function.domain.contains($0) }
      let exact = arguments.map { function.exact(Float80($0)) }
      for level in InstructionSet.available {
        let results = apply(function, to: arguments, on: level)
        var worst = WorstError<Double>()
        worst.update(
          function, arguments: arguments, exact: exact, results: results, count: arguments.count)
        #expect(
          worst.ulp <= function.statedError, "\(level) at \(worst.argument): \(worst.result)")
        for (argument, result) in zip(arguments, results) where argument.isNaN { #expect(result.isNaN) }
      }
    }
  #endif

  @Test("Values at the ends of the domains are exact", arguments: InstructionSet.available)
  func exactValues(_ level: InstructionSet) {
    check(Float.self, level)
    check(Double.self, level)
  }

  private func check<Scalar: LossScalar>(_: Scalar.Type, _ level: InstructionSet) {
    func value(_ function: ElementaryFunction, _ argument: Scalar) -> Scalar {
      apply(function, to: [argument], on: level)[0]
    }
    let infinity = Scalar.infinity
    #expect(value(.exp, 0) == 1)
    #expect(value(.exp, -infinity) == 0)
    #expect(value(.exp, infinity) == infinity)
    #expect(value(.expOfNonPositive, 0) == 1)
    #expect(value(.expOfNonPositive, -0.0) == 1)
    #expect(value(.expOfNonPositive, -infinity) == 0)
    #expect(value(.expOfNonPositive, -.greatestFiniteMagnitude) == 0)
    #expect(value(.expOfSummand, 0) == 1)
    #expect(value(.expOfSummand, -infinity) == 0)
    #expect(value(.expOfSummand, -.greatestFiniteMagnitude) == 0)
    #expect(value(.expMinusOne, -infinity) == -1)
    #expect(value(.expMinusOne, infinity) == infinity)
    #expect(value(.log, 1) == 0)
    #expect(value(.log, 0) == -infinity)
    #expect(value(.log, -0.0) == -infinity)
    #expect(value(.log, infinity) == infinity)
    #expect(value(.log, -1).isNaN)
    #expect(value(.log, -infinity).isNaN)
    #expect(value(.logOnePlus, -1) == -infinity)
    #expect(value(.logOnePlus, infinity) == infinity)
    #expect(value(.logOnePlus, -1.5).isNaN)
    #expect(value(.logOnePlus, -infinity).isNaN)
    #expect(value(.logOnePlusFraction, 0) == 0)
    #expect(value(.root, 0) == 0)
    #expect(value(.root, infinity) == infinity)
    #expect(value(.inverseRoot, 0) == 0)
    #expect(value(.inverseRoot, infinity) == 0)
    #expect(value(.tanh, infinity) == 1)
    #expect(value(.tanh, -infinity) == -1)
    #expect(value(.softplus, infinity) == infinity)
    #expect(value(.softplus, -infinity) == 0)
    #expect(value(.sigmoid, 0) == 0.5)
    #expect(value(.sigmoid, infinity) == 1)
    #expect(value(.sigmoid, -infinity) == 0)
    for function in ElementaryFunction.allCases where function.keepsNegativeZero {
      // Odd to first order: tiny numbers of either sign, and both zeros, come back as they are.
      for tiny: Scalar in [0, .leastNonzeroMagnitude, .leastNormalMagnitude, .ulpOfOne / 8] {
        for argument in [tiny, -tiny] {
          let result = value(function, argument)
          #expect(result == argument && result.sign == argument.sign, "\(function) of \(argument)")
        }
      }
    }
  }

  @Test("Odd counts read and write nothing beyond", arguments: InstructionSet.available)
  func counts(_ level: InstructionSet) {
    let kernel = KernelSelection(level).table(Float.self).elementaryFunction
    for count in [1, 3, 7, 8, 9, 15, 16, 17, 31, 33] {
      let input = GuardedBuffer<Float>(rows: 1, columns: count, [Float](repeating: 1, count: count))
      let output = GuardedBuffer<Float>(rows: 1, columns: count)
      kernel(.exp, UnsafePointer(input.base), output.base, count)
      #expect(output.isIntact)
      #expect(output.elements.allSatisfy { abs($0 - 2.7182817) < 1e-6 })
    }
  }

  private func apply<Scalar: LossScalar>(
    _ function: ElementaryFunction, to arguments: [Scalar], on level: InstructionSet
  ) -> [Scalar] {
    let kernel = KernelSelection(level).table(Scalar.self).elementaryFunction
    return [Scalar](unsafeUninitializedCapacity: arguments.count) { buffer, count in
      kernel(function, arguments, buffer.baseAddress!, arguments.count)
      count = arguments.count
    }
  }
}
