# The Collector takes the configurations of examples/collector, and says so of a
# wrong one: otherwise that would mean nothing.

use strict;
use warnings;
use Test::More;
use EdgespanTest;
use EdgespanTest::InteropCollector;

my @examples = EdgespanTest::InteropCollector->examples;
cmp_ok scalar @examples, '>=', 3, 'there are examples';
for my $file (@examples) {
    my ($ok, $said) = EdgespanTest::InteropCollector->validate($file);
    ok $ok, $file =~ s{.*/}{}r or diag $said;
}

my $wrong = tmpdir() . '/wrong.yaml';
open my $fh, '>', $wrong or die "$wrong: $!\n";
print {$fh} slurp($examples[0]) =~ s/^receivers:/receivers:\n  nonsense:/mr;
close $fh;
my ($ok, $said) = EdgespanTest::InteropCollector->validate($wrong);
ok !$ok, 'a wrong one is refused';
like $said, qr/nonsense/, 'with the reason';

done_testing;
