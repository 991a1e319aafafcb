<?php

namespace App\Exceptions;

use Illuminate\Foundation\Exceptions\Handler as Reporting;

class Handler extends Reporting
{
}
