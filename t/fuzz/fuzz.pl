#!/usr/bin/perl
# Runs the fuzz targets that "make fuzz" has built, several at once:
#
#   perl t/fuzz/fuzz.pl <build directory> <seconds> <what>...
#
# What a target learns goes to <build>/corpus/<what>, and the next run begins
# there; what breaks it goes to <build>/findings/<what>, and is tried first by the
# next run. Its words are in <build>/<what>.log.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Path qw(make_path);
use FindBin;

my ($build, $seconds, @names) = @ARGV;
my $seeds = "$FindBin::Bin/corpus";
my $at_once = `getconf _NPROCESSORS_ONLN` || 1;
my %running;
my @findings;

make_path($build);
my $root = abs_path($build);

# The program of one target, in a directory of its own.
sub start {
    my ($name) = @_;
    my ($learnt, $broken, $here) = map { "$root/$_/$name" } qw(corpus findings run);
    my $dictionary = "$FindBin::Bin/$name.dict";
    my @options = ("-max_total_time=$seconds", '-timeout=10', '-rss_limit_mb=1024',
        '-print_final_stats=1', '-use_value_profile=1', "-artifact_prefix=$broken/");

    push @options, "-dict=$dictionary" if -e $dictionary;
    make_path($learnt, $broken, $here);
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        open STDOUT, '>', "$root/$name.log" or die "$root/$name.log: $!\n";
        open STDERR, '>&', \*STDOUT or die "dup: $!\n";
        chdir $here or die "$here: $!\n";
        $ENV{UBSAN_OPTIONS} //= 'print_stacktrace=1';
        exec "$root/fuzz_$name", @options, $learnt, grep { -d } "$seeds/$name", $broken
            or die "$root/fuzz_$name: $!\n";
    }
    $running{$pid} = $name;
}

sub text_of {
    my ($file) = @_;

    open my $in, '<:raw', $file or die "$file: $!\n";
    local $/;
    return scalar <$in> // '';
}

# One line for a target that has ended, and more where it found something.
sub report {
    my ($name, $status) = @_;
    my $log = text_of("$root/$name.log");
    my ($executions) = $log =~ /^stat::number_of_executed_units:\s*(\d+)/m;
    my ($new) = $log =~ /^stat::new_units_added:\s*(\d+)/m;
    my @coverage = $log =~ /\bcov: (\d+)/g;

    printf "%-14s %10s executions %6s edges covered %5s new units%s\n", $name,
        $executions // '?', $coverage[-1] // '?', $new // '?',
        $status == 0 ? '' : '   FINDING';
    return if $status == 0;

    my ($why) = $log =~ /^(\S+:\d+: not true: .*|.*runtime error: .*|SUMMARY: .*)$/m;
    my ($unit) = $log =~ /Test unit written to (\S+)/;
    push @findings, join "\n    ", "$name: " . ($why // "ended with status $status"),
        defined $unit ? "again:  $build/fuzz_$name $unit" : (), "log:    $build/$name.log";
}

# The seconds of one are no measure of the next: start where one ends.
$| = 1;
for my $name (@names) {
    finish() while keys %running >= $at_once;
    start($name);
}
finish() while %running;

sub finish {
    my $pid = wait;

    report(delete $running{$pid}, $?) if exists $running{$pid};
}

print map { "\n$_\n" } @findings;
exit(@findings ? 1 : 0);
